"""The server of a site: sessions, batching, API keys, metrics and the app around a domain's routes.

It knows predictors and services, never how a bundle is sealed or installed, and never torch.
"""
