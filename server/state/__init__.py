"""Recent states: what shoppers did lately, packed one value a shopper in the store."""
