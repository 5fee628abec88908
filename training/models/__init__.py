"""The stages that train a part of the checkpoint."""
