"""Domain content: copy about products that says every attribute, invents none, and keeps to the rules."""
