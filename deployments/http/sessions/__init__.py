"""Sessions over WebSockets: their messages, what they speak, what was heard."""
