"""Items out of the house: Moodle GIFT and XML, QTI 3.0 packages, printable sheets. Each is a function of items."""
