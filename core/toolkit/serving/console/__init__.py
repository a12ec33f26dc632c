"""The console: pages of the served process for the people of a site. English and Chinese, all from its own origin.

It shows what routes answer and domains bring, and knows no domain. Who may see which page is enforced here and by the
routes themselves, never by a link that is left out.
"""
