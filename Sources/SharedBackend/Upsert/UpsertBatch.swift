/// Records that are applied in one transaction, in the input's order.
struct UpsertBatch {
    private(set) var records: [UpsertRecord] = []
    private(set) var sizeBytes = 0

    var isEmpty: Bool { records.isEmpty }

    init() {}

    private init(_ records: ArraySlice<UpsertRecord>) {
        for record in records { add(record) }
    }

    mutating func add(_ record: UpsertRecord) {
        sizeBytes += record.values.reduce(64) { $0 + ($1?.utf8.count ?? 0) }
        records.append(record)
    }

    /// The records in rounds that follow each other: the first of every key, the second of those that come again, and
    /// so on. Within a round their order does not matter, so they go by columns, each group sorted by key: two services
    /// that lock rows do it in the same order.
    ///
    /// - Parameter keys: one for each record, the same number for the same row.
    func rounds(keys: [Int]) -> [[UpsertRecord]] {
        var met: [Int: Int] = [:]
        var rounds: [[[String]: [UpsertRecord]]] = []
        for (record, key) in zip(records, keys) {
            let round = met[key, default: 0]
            met[key] = round + 1
            if round == rounds.count { rounds.append([:]) }
            rounds[round][record.columns, default: []].append(record)
        }
        return rounds.flatMap { groups in
            groups.keys.sorted { $0.lexicographicallyPrecedes($1) }.map { columns in
                (groups[columns] ?? []).sorted { $0.key.lexicographicallyPrecedes($1.key) }
            }
        }
    }

    /// Numbers for `rounds`, where every spelling is a key of its own.
    var keysAsWritten: [Int] {
        var numbers: [[String]: Int] = [:]
        return records.map { record in
            let number = numbers[record.key] ?? numbers.count
            numbers[record.key] = number
            return number
        }
    }

    /// Two halves, to find the record that PostgreSQL refuses.
    var halves: [UpsertBatch] {
        let middle = records.count / 2
        return [UpsertBatch(records[..<middle]), UpsertBatch(records[middle...])]
    }
}
