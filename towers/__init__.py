"""Learning: schema, ingest, features, models, training and offline evaluation; knows neither index nor network."""
