"""The real actors in virtual time: a seeded event loop, and fakes of the bus and of the store."""
