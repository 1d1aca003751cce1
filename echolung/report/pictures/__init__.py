"""Pictures of clips: thumbnails, attention over a clip, where clips lie among each other."""
