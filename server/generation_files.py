"""Files of a generation that the server reads by name; a module of its own, since the supervisor imports no model."""

ITEM_IDS_FILE, USER_IDS_FILE, CATALOGUE_FILE = "items.ids", "users.ids", "catalogue.parquet"
