"""The task anomaly_maps: good parts are learnt, whatever differs is found and shown."""
