"""JPEG files that every decoder opens, by an encoder that has learned: tables, attention, rounding by what bits cost.

Struempler, Yang, Timofte, "Learning to Improve Image Compression without Changing the Standard Decoder" (ECCV
workshops 2020). A reader begins with `encoder`, where the way of a picture into a file stands on one page.
"""
