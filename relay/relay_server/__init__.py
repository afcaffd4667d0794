"""The bundled relay: durable messages, deliveries and receipts over HTTP and SQLite."""
