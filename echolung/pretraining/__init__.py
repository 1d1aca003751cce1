"""How an encoder learns from videos without labels: V-JEPA 2's masked-latent prediction, continued on ultrasound."""
