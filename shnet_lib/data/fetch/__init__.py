"""Getting a data set: annotations, the photos they need, and GloVe's vectors of their words.

    shnet data fetch --dataset unc --data data/unc --glove

fetch.py gets the parts in order and reports on each; sources.py has the addresses, download.py gets
one file, zips.py unpacks, photos.py gets thousands of photos at a time. A run that was killed is
continued by the next one.
"""
