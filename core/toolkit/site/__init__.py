"""The site: where sealed bundles are installed, rolled back, opened for serving, and every step is audited.

Knows the folder of a site and the rules for changing it; what a bundle is, `seal` knows.
"""
