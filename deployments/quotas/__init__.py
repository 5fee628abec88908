"""How much each tenant and key may use, counted for the whole cluster without a call a request."""
