"""A seeded simulation of whole meshes around the real decisions of ``meshnode.core``."""
