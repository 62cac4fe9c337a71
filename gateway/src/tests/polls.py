"""Polls one partition by every strategy and prints what came: one line per message."""

import asyncio
import os
import sys

from apache_iggy import Consumer, IggyClient, PollingStrategy


async def main(address: str) -> None:
    client = IggyClient(address)
    await client.connect()
    await client.login_user("iggy", "iggy")
    topic = await client.get_topic("orders", "events")
    print(topic.name, topic.partitions_count)
    for strategy, count in [
        (PollingStrategy.Offset(value=0), 30),
        (PollingStrategy.Offset(value=20), 30),
        (PollingStrategy.First(), 5),
        (PollingStrategy.Last(), 5),
    ]:
        messages = await client.poll_messages(
            "orders",
            "events",
            consumer=Consumer.Single("python"),
            polling_strategy=strategy,
            count=count,
            auto_commit=False,
            partition_id=0,
        )
        for message in messages:
            print(message.offset(), message.checksum(), message.timestamp(), message.payload())


asyncio.run(main(sys.argv[1]))
# The client's threads outlive the interpreter and can crash it while it is taken down: everything is said, so end here.
sys.stdout.flush()
os._exit(0)
