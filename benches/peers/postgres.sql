-- Balances and the swap, for `make peers`. Integers of 8 bytes, which are faster here than numeric;
-- pages half full, so that a new version of a row finds room beside the old one.

CREATE TABLE balances (
    account bigint,
    asset integer,
    available bigint NOT NULL CHECK (available >= 0),
    PRIMARY KEY (account, asset)
) WITH (fillfactor = 50);

-- Both transfers in one statement. The rows are locked and the funds checked already.
CREATE FUNCTION transfer(
    a bigint, b bigint, asset1 integer, amount1 bigint, asset2 integer, amount2 bigint
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE balances SET available = available +
        CASE WHEN account = a
            THEN CASE WHEN asset = asset1 THEN -amount1 ELSE amount2 END
            ELSE CASE WHEN asset = asset1 THEN amount1 ELSE -amount2 END
        END
    WHERE account IN (a, b) AND asset IN (asset1, asset2);
END $$;

-- One swap: locks its four rows in the order of their keys, checks the funds, and settles.
-- A shortage ends the transaction with an error, as the workload's funds are ample.
CREATE FUNCTION swap(
    a bigint, b bigint, asset1 integer, amount1 bigint, asset2 integer, amount2 bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    sufficient bigint;
BEGIN
    -- FILTER and not WHERE, which PostgreSQL would apply before it locks.
    SELECT count(*) FILTER (WHERE available >= CASE
        WHEN account = a AND asset = asset1 THEN amount1
        WHEN account = b AND asset = asset2 THEN amount2
        ELSE 0
    END) INTO sufficient FROM (
        SELECT account, asset, available FROM balances
        WHERE account IN (a, b) AND asset IN (asset1, asset2)
        ORDER BY account, asset FOR UPDATE
    ) AS locked;
    IF sufficient < 4 THEN RAISE EXCEPTION 'short of funds'; END IF;
    PERFORM transfer(a, b, asset1, amount1, asset2, amount2);
END $$;

-- Many swaps in one transaction: draws them here, which spares their way from the client; locks
-- all their rows in the order of keys; then settles one after the other.
CREATE FUNCTION swap_many(
    accounts bigint, amount_max integer, swaps integer, seed double precision
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    givers bigint[]; takers bigint[]; assets integer[]; gives bigint[]; takes bigint[];
    drawn record; funds1 bigint; funds2 bigint;
BEGIN
    PERFORM setseed(seed);
    SELECT array_agg(a), array_agg(1 + (a - 1 + step) % accounts), array_agg(x),
        array_agg(p), array_agg(q)
    INTO givers, takers, assets, gives, takes
    FROM (
        SELECT 1 + floor(random() * accounts)::bigint AS a,
            1 + floor(random() * (accounts - 1))::bigint AS step,
            1 + floor(random() * 2)::integer AS x,
            1 + floor(random() * amount_max)::bigint AS p,
            1 + floor(random() * amount_max)::bigint AS q
        FROM generate_series(1, swaps)
    ) AS draws;
    PERFORM 1 FROM balances WHERE account = ANY (givers || takers)
        ORDER BY account, asset FOR UPDATE;
    FOR drawn IN SELECT * FROM unnest(givers, takers, assets, gives, takes) AS t(a, b, x, p, q) LOOP
        SELECT available INTO funds1 FROM balances WHERE account = drawn.a AND asset = drawn.x;
        SELECT available INTO funds2 FROM balances WHERE account = drawn.b AND asset = 3 - drawn.x;
        IF funds1 < drawn.p OR funds2 < drawn.q THEN RAISE EXCEPTION 'short of funds'; END IF;
        PERFORM transfer(drawn.a, drawn.b, drawn.x, drawn.p, 3 - drawn.x, drawn.q);
    END LOOP;
END $$;
