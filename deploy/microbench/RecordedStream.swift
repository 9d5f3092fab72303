/// What a walsender sends for one of the benchmark's workloads (deploy/bench/workloads.py): the same tables, the same
/// binary values, the same order. Made from a seed, so that every build reads the same bytes.
struct RecordedStream {
    private(set) var bytes: [UInt8] = []
    /// Each a CopyData message: the envelope, then pgoutput's message.
    private(set) var messages: [Range<Int>] = []
    private(set) var changeCount = 0
    private var lsn: UInt64 = 0x1_0000_0000
    private var xid: UInt32 = 1_000
    private var random = SplitMix64(state: 42)
    /// Who has written it, if that was no client.
    private var origin: String?

    private init() { bytes.reserveCapacity(8 << 20) }

    // MARK: workloads

    /// pgbench's TPC-B-like transactions at scale 20, `pgbench_history` with a primary key.
    static func tpcb(transactions: Int = 4_000) -> RecordedStream {
        var stream = RecordedStream()
        stream.relation(1, "pgbench_accounts", [("aid", 23), ("bid", 23), ("abalance", 23), ("filler", 1042)])
        stream.relation(2, "pgbench_tellers", [("tid", 23), ("bid", 23), ("tbalance", 23), ("filler", 1042)])
        stream.relation(3, "pgbench_branches", [("bid", 23), ("bbalance", 23), ("filler", 1042)])
        stream.relation(
            4, "pgbench_history",
            [("hid", 20), ("tid", 23), ("bid", 23), ("aid", 23), ("delta", 23), ("mtime", 1114), ("filler", 1042)])
        let filler = [UInt8](repeating: UInt8(ascii: " "), count: 84)
        for number in 0..<transactions {
            let (account, teller) = (stream.random.below(2_000_000), stream.random.below(200))
            let (branch, delta) = (teller / 10, stream.random.below(10_000))
            stream.transaction { stream in
                stream.row("U", 1, [.int32(account), .int32(account / 100_000), .int32(delta), .bytes(filler)])
                stream.row("U", 2, [.int32(teller), .int32(branch), .int32(delta), .null])
                stream.row("U", 3, [.int32(branch), .int32(delta), .null])
                stream.row(
                    "I", 4,
                    [
                        .int64(number), .int32(teller), .int32(branch), .int32(account), .int32(delta),
                        .int64(800_000_000_000_000 + number), .null,
                    ])
            }
        }
        return stream
    }

    /// Inserts of 500 reservations a transaction.
    static func inserts(transactions: Int = 16) -> RecordedStream {
        reservations("I", transactions: transactions, rows: 500) { $1 }
    }

    /// Updates of one column by key, 100 a transaction, uniform over 200,000 rows.
    static func updates(transactions: Int = 80) -> RecordedStream {
        reservations("U", transactions: transactions, rows: 100) { random, _ in random.below(200_000) }
    }

    /// The same, four of five on one row in a hundred.
    static func hot(transactions: Int = 80) -> RecordedStream {
        reservations("U", transactions: transactions, rows: 100) { random, _ in
            random.below(10) < 8 ? random.below(2_000) : random.below(200_000)
        }
    }

    /// Updates of a column that both sides of a split write: with the whole old row.
    static func shared(transactions: Int = 80) -> RecordedStream {
        reservations("U", transactions: transactions, rows: 100, isFull: true) { random, _ in random.below(200_000) }
    }

    /// The same, as they come back from the other side.
    static func echo(transactions: Int = 80) -> RecordedStream {
        reservations("U", transactions: transactions, rows: 100, isFull: true, origin: CorePath.ownOrigin) { random, _ in
            random.below(200_000)
        }
    }

    private static func reservations(
        _ kind: Unicode.Scalar, transactions: Int, rows: Int, isFull: Bool = false, origin: String? = nil,
        pick: (inout SplitMix64, Int) -> Int
    ) -> RecordedStream {
        var stream = RecordedStream()
        stream.origin = origin
        stream.relation(
            5, "reservations", identity: isFull ? "f" : "d",
            [
                ("id", 20), ("bookingId", 25), ("guestName", 25), ("phone", 25), ("arrivalDate", 1082), ("status", 25),
                ("apiData", 3802), ("lastSync", 1184), ("price", 1700), ("updated", 1184),
            ])
        for number in 0..<transactions {
            let ids = (0..<rows).map { pick(&stream.random, number * rows + $0) }
            stream.transaction { stream in
                for id in ids {
                    stream.row(
                        kind, 5, reservation(id, price: number), old: isFull ? reservation(id, price: number - 1) : nil)
                }
            }
        }
        return stream
    }

    private static func reservation(_ id: Int, price: Int) -> [Value] {
        let digest = [UInt8](repeating: UInt8(ascii: "a") + UInt8(id % 16), count: 32)
        var document: [UInt8] = [1]
        document += Array("{\"notes\": \"".utf8) + digest + digest + digest
        document += Array("\", \"rooms\": 1, \"adults\": 2, \"source\": \"beds24\", \"guest\": {\"email\": \"".utf8) + digest
        document += Array("@example.com\", \"first\": \"".utf8) + digest
        document += Array("\"}, \"reference\": \"".utf8) + digest + Array("\"}".utf8)
        let name = Array("Guest ".utf8) + digest
        // numeric: two digits of base 10,000, weight 0, positive, scale 2.
        let amount: [UInt8] = [0, 2, 0, 0, 0, 0, 0, 2, 0, UInt8((price + 200) % 200), 0x13, 0x88]
        return [
            .int64(id), .bytes(Array("B-000000\(100_000 + id)".utf8)), .bytes(name), .bytes(Array("+34600000000".utf8)),
            .int32(9_500 + id % 700), .bytes(Array("confirmed".utf8)), .bytes(document),
            .int64(820_000_000_000_000 + id), .bytes(amount), .int64(820_000_000_000_000 + 2 * id),
        ]
    }

    // MARK: messages

    private enum Value {
        case null
        case int32(Int)
        case int64(Int)
        case bytes([UInt8])
    }

    private mutating func transaction(_ body: (inout RecordedStream) -> Void) {
        lsn += 1_024
        xid += 1
        message { stream in
            stream.put(UInt8(ascii: "B"))
            stream.put(stream.lsn)
            stream.put(820_000_000_000_000 + stream.lsn)
            stream.put(stream.xid)
        }
        if let origin {
            message { stream in
                stream.put(UInt8(ascii: "O"))
                stream.put(stream.lsn)
                stream.put(text: origin)
            }
        }
        body(&self)
        message { stream in
            stream.put(UInt8(ascii: "C"))
            stream.put(UInt8(0))
            stream.put(stream.lsn)
            stream.put(stream.lsn + 48)
            stream.put(820_000_000_000_000 + stream.lsn)
        }
    }

    /// The first column is the key.
    private mutating func relation(
        _ id: UInt32, _ name: String, identity: Unicode.Scalar = "d", _ columns: [(name: String, type: UInt32)]
    ) {
        message { stream in
            stream.put(UInt8(ascii: "R"))
            stream.put(id)
            stream.put(text: "public")
            stream.put(text: name)
            stream.put(UInt8(ascii: identity))
            stream.put(UInt16(columns.count))
            for (position, column) in columns.enumerated() {
                stream.put(UInt8(position == 0 ? 1 : 0))
                stream.put(text: column.name)
                stream.put(column.type)
                stream.put(UInt32.max)
            }
        }
    }

    private mutating func row(_ kind: Unicode.Scalar, _ relation: UInt32, _ values: [Value], old: [Value]? = nil) {
        changeCount += 1
        message { stream in
            stream.put(UInt8(ascii: kind))
            stream.put(relation)
            if let old {
                stream.put(UInt8(ascii: "O"))
                stream.put(UInt16(old.count))
                for value in old { stream.put(value) }
            }
            stream.put(UInt8(ascii: "N"))
            stream.put(UInt16(values.count))
            for value in values { stream.put(value) }
        }
    }

    private mutating func message(_ body: (inout RecordedStream) -> Void) {
        let start = bytes.count
        put(UInt8(ascii: "w"))
        for _ in 0..<3 { put(lsn) }
        body(&self)
        messages.append(start..<bytes.count)
    }

    private mutating func put(_ value: Value) {
        switch value {
        case .null: put(UInt8(ascii: "n"))
        case .int32(let number):
            put(UInt8(ascii: "b"))
            put(UInt32(4))
            put(Int32(number))
        case .int64(let number):
            put(UInt8(ascii: "b"))
            put(UInt32(8))
            put(Int64(number))
        case .bytes(let content):
            put(UInt8(ascii: "b"))
            put(UInt32(content.count))
            bytes += content
        }
    }

    private mutating func put(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
    }

    private mutating func put(text: String) {
        bytes += Array(text.utf8)
        bytes.append(0)
    }
}

/// A generator that is the same everywhere.
struct SplitMix64 {
    var state: UInt64

    mutating func below(_ limit: Int) -> Int {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return Int((z ^ (z >> 31)) % UInt64(limit))
    }
}
