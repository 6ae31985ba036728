"""Getting a data set: annotations, the photos they need, and GloVe's vectors of their words.

    shnet data fetch --dataset unc --data data/unc --glove

sources.py says from where, download.py gets one file, archive.py unpacks zips, photos.py gets
thousands of photos at a time, and prepare.py puts the parts into a folder and says what is there.
What a run was killed over is continued by the next one.
"""
