"""The filters: networks that take a decoded picture and give a better one. They know nothing of files."""
