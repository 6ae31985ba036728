"""Referring phrases for photos, made from instance annotations in COCO's format.

Read in this order: words.py (what people call COCO's kinds), colours.py (which colour something
surely has), scene.py (what is annotated in a photo, and the queries about it), phrases.py (the
phrases that a photo gets), variants.py (crops, flips, light, pasted objects), write.py (the files).
"""
