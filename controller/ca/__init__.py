"""The mesh's certificate authority: what to issue and when (`policy`), and issuing it (`issue`)."""
