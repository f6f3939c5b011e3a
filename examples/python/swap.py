"""A first swap over gRPC: two assets, two accounts, and both legs latch or neither moves.

    python3 -m venv target/venv
    target/venv/bin/pip install -q -r examples/python/requirements.txt
    target/venv/bin/python examples/python/swap.py 127.0.0.1:7401

The stubs are made of the proto file when it runs; a program of your own would keep them.
"""

import pathlib
import sys
import time
import uuid

import grpc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"
sys.path.insert(0, str(PROTO))
pb, rpc = grpc.protos_and_services("crosslatch/v1/exchange.proto")


def request_id():
    """A new id, a UUID of version 7. Keep it until the outcome is known: sent again, it counts once."""
    bits = (time.time_ns() // 1_000_000 << 80) | (uuid.uuid4().int & ((1 << 80) - 1))
    bits = bits & ~(0xF << 76) & ~(0b11 << 62) | 7 << 76 | 0b10 << 62
    return bits.to_bytes(16, "big")


def amount(units):
    """Amounts are whole numbers of 128 bits."""
    return pb.Amount(low=units & (2**64 - 1), high=units >> 64)


def units(amount):
    return amount.high << 64 | amount.low


def leg(payer, payee, asset, n):
    return pb.Leg(from_account=payer, to_account=payee, asset=asset, amount=amount(n))


def problem(error):
    """What a refused call says: the problem inside its status (google.rpc.Status)."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            found = value.split(b"type.googleapis.com/crosslatch.v1.Problem", 1)[1]
            # A field of an Any: its tag, its length, and then the problem.
            length, place = 0, 1
            while True:
                byte = found[place]
                length |= (byte & 0x7F) << 7 * (place - 1)
                place += 1
                if byte < 0x80:
                    break
            return pb.Problem.FromString(found[place : place + length])
    raise error


def set_up(exchange):
    exchange.PutAsset(pb.PutAsset(asset="ETH", chain_id=1, chain_kind=pb.CHAIN_KIND_EVM, token="native", decimals=18))
    exchange.PutAsset(pb.PutAsset(asset="SOL", chain_id=101, chain_kind=pb.CHAIN_KIND_SOLANA, token="native", decimals=9))
    for account, evm, sol in [
        (1, "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359", "DYw8jCTfwHNRJhhmFcbXvVDTqWMEVFBX6ZKUmG5CNSKK"),
        (2, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "7EcDhSYGxXyscszYEp35KHN8vvw3svAuLKTzXwCFLtV"),
    ]:
        links = [pb.Link(chain_id=1, address=evm), pb.Link(chain_id=101, address=sol)]
        exchange.PutAccount(pb.PutAccount(account=account, links=links))
    for account, asset, n in [(1, "ETH", 10 * 10**18), (2, "SOL", 500 * 10**9)]:
        exchange.Deposit(pb.Transfer(request_id=request_id(), account=account, asset=asset, amount=amount(n)))


def main(address):
    with grpc.insecure_channel(address) as channel:
        exchange = rpc.ExchangeStub(channel)
        set_up(exchange)

        # Alice sells 2 ETH to Bob for 40 SOL.
        swap = pb.Swap(
            request_id=request_id(),
            legs=[leg(1, 2, "ETH", 2 * 10**18), leg(2, 1, "SOL", 40 * 10**9)],
        )
        receipt = exchange.Swap(swap)
        print(f"settled as seq {receipt.commit_seq}")
        assert exchange.Swap(swap) == receipt, "sent again, it is the same swap"

        # What cannot be paid is refused, and nothing moves.
        try:
            exchange.Swap(pb.Swap(request_id=request_id(), legs=[leg(1, 2, "ETH", 10**30), leg(2, 1, "SOL", 1)]))
        except grpc.RpcError as error:
            refused = problem(error)
            print(f"refused as {refused.code}: short by {units(refused.short_by)}")

        # The fast path: batches in a stream, answered in order.
        def batches():
            for number in range(3):
                requests = [
                    pb.Request(swap=pb.Swap(request_id=request_id(), legs=[leg(1, 2, "ETH", 1), leg(2, 1, "SOL", 1)]))
                    for _ in range(100)
                ]
                yield pb.Batch(number=number, detail=pb.DETAIL_BRIEF, requests=requests)

        for result in exchange.Submit(batches()):
            settled = sum(seq > 0 for seq in result.briefs.commit_seqs)
            print(f"batch {result.number}: {settled} settled")

        for balance in exchange.GetBalances(pb.GetBalancesRequest(account=2)).balances:
            print(f"Bob has {units(balance.available)} {balance.asset}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7401")
