/* A report starts from the parts in its own file. */
vnp.start(vnp.embeddedSource(vnp.partsOfDocument));
