"""The sealed bundle: format, keys, grants, trust, verification and opening (docs/bundle-format.md).

Every primitive comes from `cryptography`; nothing here knows plugins, models, torch or what a site does with a bundle.
"""
