"""Reads every partition of a topic to its end and writes one line per message: partition, offset, id, payload."""

import asyncio
import os
import sys

from apache_iggy import Consumer, IggyClient, PollingStrategy

BATCH = 1000


async def main(address: str, stream: str, topic: str, partitions: int, path: str) -> None:
    client = IggyClient(address)
    await client.connect()
    await client.login_user("iggy", "iggy")
    with open(path, "w", encoding="utf-8") as out:
        for partition in range(partitions):
            offset = 0
            while True:
                messages = await client.poll_messages(
                    stream,
                    topic,
                    consumer=Consumer.Single("python"),
                    polling_strategy=PollingStrategy.Offset(value=offset),
                    count=BATCH,
                    auto_commit=False,
                    partition_id=partition,
                )
                for message in messages:
                    print(partition, message.offset(), message.id(), message.payload().decode(), file=out)
                    offset = message.offset() + 1
                if not messages:
                    break


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]))
# The client's threads outlive the interpreter and can crash it while it is taken down: everything is written, so end here.
os._exit(0)
