"""One picture in, one class out: reading folders of pictures, and what is built upon them. Nothing is imported here,
so that a server loads only what it needs."""
