"""A fake Twinrank server for the unit tests of services that use the SDK: real gRPC on loopback, answers made to order.

    with FakeServer() as fake, Client(fake.target) as twinrank:
        fake.give_recommendations(["milk", "bread"], user_id="1")
        assert twinrank.recommend(RecommendRequest(user_id="1")).item_ids == ("milk", "bread")
        assert fake.requests == [RecommendRequest(user_id="1")]

In pytest: `from twinrank_client.testing.pytest_plugin import twinrank_server` in a conftest, then ask for it by name.
"""

from twinrank_client.testing.fake_server import FakeServer, RecordedCall

__all__ = ["FakeServer", "RecordedCall"]
