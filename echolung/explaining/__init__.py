"""Where an encoder looks: Grad-CAM and attention maps over a clip."""
