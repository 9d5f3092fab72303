/// How far a server's clock is from a steady local one, from readings over a network.
///
/// A server reads its clock some time between the question and the answer: so a reading is exact to half of its round
/// trip, and the one with the smallest round trip is the best. All times are microseconds.
public struct ClockEstimate: Sendable, Equatable {
    /// Server minus local, as if the clock had been read in the middle of the round trip.
    public private(set) var offsetMicroseconds: Int64 = 0
    /// The most by which that can be wrong. `nil` before the first reading.
    public private(set) var errorMicroseconds: Int64?

    public init() {}

    /// Takes a reading into account; one whose answer came before its question is none.
    ///
    /// - Parameters:
    ///   - server: the server's clock.
    ///   - sentAt: the local steady clock at the question, `receivedAt` at the answer.
    public mutating func add(server: Int64, sentAt: Int64, receivedAt: Int64) {
        let roundTrip = receivedAt - sentAt
        guard roundTrip >= 0 else { return }
        // Rounded up: a bound must not be too small by half a microsecond.
        let error = (roundTrip + 1) / 2
        if let known = errorMicroseconds, known <= error { return }
        offsetMicroseconds = server - (sentAt + roundTrip / 2)
        errorMicroseconds = error
    }
}

/// How far the clock of one server is ahead of another's, by readings of both against one local clock.
public struct ClockOffset: Sendable, Equatable {
    /// Negative when it is behind.
    public var microseconds: Int64
    /// The truth lies within this much of it.
    public var errorMicroseconds: Int64

    public init(microseconds: Int64, errorMicroseconds: Int64) {
        self.microseconds = microseconds
        self.errorMicroseconds = errorMicroseconds
    }

    /// Of `target` over `source`; `nil` while one of them was not read.
    public init?(of target: ClockEstimate, over source: ClockEstimate) {
        guard let targetError = target.errorMicroseconds, let sourceError = source.errorMicroseconds else { return nil }
        microseconds = target.offsetMicroseconds - source.offsetMicroseconds
        errorMicroseconds = targetError + sourceError
    }

    public var milliseconds: Double { Double(microseconds) / 1_000 }
    public var errorMilliseconds: Double { Double(errorMicroseconds) / 1_000 }

    /// What a limit says of it.
    public enum Verdict: Sendable, Equatable {
        /// Surely not past it.
        case within
        /// The network is too slow to tell.
        case unclear
        /// Surely past it.
        case past
    }

    public func verdict(limitMilliseconds: Int) -> Verdict {
        let limit = Int64(limitMilliseconds) * 1_000
        let distance = microseconds.magnitude > UInt64(Int64.max) ? Int64.max : Int64(microseconds.magnitude)
        if distance - errorMicroseconds > limit { return .past }
        return distance <= limit - errorMicroseconds ? .within : .unclear
    }

    /// `sync's clock is 3.2 ms ahead of bot's (± 0.4 ms)`.
    public func words(source: String, target: String) -> String {
        let amount = PlainText.tenths(abs(milliseconds))
        let bound = "(± \(PlainText.tenths(errorMilliseconds)) ms)"
        if microseconds == 0 { return "\(target)'s clock shows the same as \(source)'s \(bound)" }
        return "\(target)'s clock is \(amount) ms \(microseconds > 0 ? "ahead of" : "behind") \(source)'s \(bound)"
    }
}

/// The clocks of the two sides of a split in a `StatusSnapshot`.
public struct ClockStatus: Sendable, Equatable, Decodable {
    public var source: String
    public var target: String
    /// The target's clock minus the source's.
    public var offsetMilliseconds: Double
    public var errorMilliseconds: Double
    /// `gates.max_clock_offset`.
    public var limitMilliseconds: Int
    /// Whether it is surely past the limit; `nil` when the network is too slow to tell.
    public var isPast: Bool?

    public init(source: String, target: String, offset: ClockOffset, limitMilliseconds: Int) {
        self.source = source
        self.target = target
        offsetMilliseconds = offset.milliseconds
        errorMilliseconds = offset.errorMilliseconds
        self.limitMilliseconds = limitMilliseconds
        switch offset.verdict(limitMilliseconds: limitMilliseconds) {
        case .within: isPast = false
        case .unclear: isPast = nil
        case .past: isPast = true
        }
    }

    private var offset: ClockOffset {
        ClockOffset(
            microseconds: Int64((offsetMilliseconds * 1_000).rounded()),
            errorMicroseconds: Int64((errorMilliseconds * 1_000).rounded()))
    }

    /// For people.
    public var words: String {
        let verdict =
            switch isPast {
            case true?: ", past the limit of \(limitMilliseconds) ms (gates.max_clock_offset)"
            case false?: ", limit \(limitMilliseconds) ms"
            case nil: ", too inexact to hold against the limit of \(limitMilliseconds) ms"
            }
        return offset.words(source: source, target: target) + verdict
    }

    public var document: JSONValue {
        .object([
            ("source", .text(source)), ("target", .text(target)), ("offsetMilliseconds", .number(offsetMilliseconds)),
            ("errorMilliseconds", .number(errorMilliseconds)), ("limitMilliseconds", .optional(limitMilliseconds)),
            ("isPast", .optional(isPast)),
        ])
    }
}
