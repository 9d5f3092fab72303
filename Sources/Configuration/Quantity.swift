import ReplicationCore

/// A number with its unit, as people write it: `200ms`, `24h`, `5GB`.
struct Quantity {
    enum Failure: Error, Equatable {
        case malformed
        case missingUnit
        case unknownUnit(nearest: String?)
        case outOfRange
    }

    /// Milliseconds in each unit.
    static let durations: [(unit: String, factor: Double)] = [
        ("ms", 1), ("s", 1_000), ("min", 60_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000),
    ]
    /// Bytes in each unit. `kB` is 1,000 and `KiB` is 1,024, as the standards have it.
    static let sizes: [(unit: String, factor: Double)] = [
        ("B", 1), ("kB", 1e3), ("KB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12),
        ("KiB", 1_024), ("MiB", 1_048_576), ("GiB", 1_073_741_824), ("TiB", 1_099_511_627_776),
    ]

    /// The value in the units' base (milliseconds or bytes). A bare `0` needs no unit.
    static func parse(_ text: String, units: [(unit: String, factor: Double)]) throws(Failure) -> Int {
        let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == "." || $0 == "_") }
        let unit = String(text.dropFirst(digits.count).drop { $0 == " " })
        guard let number = Double(digits.filter { $0 != "_" }), number.isFinite else { throw .malformed }
        if unit.isEmpty {
            if number == 0 { return 0 }
            throw .missingUnit
        }
        guard let factor = units.first(where: { $0.unit == unit })?.factor else {
            throw .unknownUnit(nearest: nearestUnit(to: unit, among: units.map(\.unit)))
        }
        let value = (number * factor).rounded()
        // Far past any gate, and every sum of two of them still fits.
        guard value <= 1e18 else { throw .outOfRange }
        return Int(value)
    }

    /// Units are too short for edit distance: `seconds` means `s`, `gb` means `GB`.
    private static func nearestUnit(to text: String, among units: [String]) -> String? {
        let word = text.lowercased()
        if let unit = units.first(where: { $0.lowercased() == word }) { return unit }
        if word.hasPrefix("milli") || word.hasPrefix("msec") { return units.first { $0 == "ms" } }
        return units.first { $0 == "min" && word.hasPrefix("min") }
            ?? units.first { $0.count == 1 && word.hasPrefix($0.lowercased()) }
            ?? units.first { $0.lowercased().hasPrefix(word.prefix(1)) && $0.count > 1 && word.count <= 3 }
    }
}
