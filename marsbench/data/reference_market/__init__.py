"""The reference market's traders: activity, fundamental value, orders, queues, and whole days of them."""
