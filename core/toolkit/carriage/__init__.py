"""How a sealed bundle travels: as an image in an OCI registry, or as a tar of the OCI image-layout.

Carriage trusts nobody it meets: what it brings is judged by the trust root before it is given its place. Nothing here
knows keys that open, plugins or sites.
"""
