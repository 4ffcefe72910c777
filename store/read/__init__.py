"""Reading a store: lazy views, columns, search, and adapters to other libraries. Writes nothing."""
