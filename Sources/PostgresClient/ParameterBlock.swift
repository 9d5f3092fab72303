import CLibPQ
import Glibc

/// Parameters laid out as libpq takes them: pointers, lengths and formats, borrowed for one call.
///
/// Binary values are passed where they lie. Text is copied once, because libpq wants a zero at its end.
enum ParameterBlock {
    typealias Arguments = (
        count: CInt, values: UnsafePointer<UnsafePointer<CChar>?>?, lengths: UnsafePointer<CInt>?,
        formats: UnsafePointer<CInt>?
    )

    static let maximumCount = 65_535
    /// The server takes messages below 1 GB; the rest of a Bind message is small.
    static let maximumBytes = (1 << 30) - (1 << 16)
    /// Each borrowed value is one level of recursion; beyond this many, values are copied instead.
    private static let maximumBorrowed = 256

    /// What one call of `withArguments` works with.
    private struct Slots {
        let values: UnsafeMutableBufferPointer<UnsafePointer<CChar>?>
        let lengths: UnsafeMutableBufferPointer<CInt>
        let formats: UnsafeMutableBufferPointer<CInt>
        /// Where a copied value starts in the scratch; -1 for others.
        let offsets: UnsafeMutableBufferPointer<Int>
    }

    /// Calls `body` with the pointers of parameters that `check` has let pass.
    ///
    /// - Parameter scratch: kept by the caller between calls, so that its memory is reused.
    static func withArguments<Value>(
        _ parameters: [PostgresParameter], scratch: inout [UInt8], _ body: (Arguments) -> Value
    ) -> Value {
        if parameters.isEmpty { return body((0, nil, nil, nil)) }
        let borrows = parameters.count <= maximumBorrowed
        scratch.removeAll(keepingCapacity: scratch.capacity < 1 << 22)
        return withSlots(parameters.count) { slots in
            copy(parameters, borrows: borrows, slots, &scratch)
            return parameters.withUnsafeBufferPointer { parameters in
                scratch.withUnsafeBytes { copied in
                    borrow(parameters, from: 0, borrows: borrows, slots, copied, body)
                }
            }
        }
    }

    /// Refuses parameters that PostgreSQL or libpq cannot take, some of which libpq would cut short.
    static func check(_ parameters: [PostgresParameter], types: [UInt32] = []) throws(PostgresError) {
        guard parameters.count <= maximumCount else {
            throw .parameter(index: 0, problem: .tooMany(count: parameters.count))
        }
        // libpq reads as many types as there are parameters.
        guard types.isEmpty || types.count == parameters.count else {
            throw .protocolViolation("\(types.count) parameter types for \(parameters.count) parameters")
        }
        var total = 0
        for (index, parameter) in parameters.enumerated() {
            let holdsZero: Bool
            switch parameter {
            case .null: continue
            case .text(let text):
                total += text.utf8.count
                holdsZero = text.utf8.contains(0)
            case .textBytes(let bytes):
                total += bytes.count
                holdsZero = bytes.withUnsafeBytes { memchr($0.baseAddress ?? UnsafeRawPointer(empty), 0, $0.count) } != nil
            case .binary(let bytes):
                total += bytes.count
                holdsZero = false
            }
            if holdsZero { throw .parameter(index: index + 1, problem: .zeroByteInText) }
            if total > maximumBytes { throw .parameter(index: index + 1, problem: .tooLarge(bytes: total)) }
        }
    }

    /// The same for values that lie in one block already.
    static func withArguments<Value>(_ parameters: PackedParameters, _ body: (Arguments) -> Value) -> Value {
        withSlots(parameters.entries.count) { slots in
            parameters.bytes.withUnsafeBytes { block in
                let base = block.baseAddress?.assumingMemoryBound(to: CChar.self) ?? empty
                for (index, entry) in parameters.entries.enumerated() where entry.length >= 0 {
                    slots.values[index] = base + entry.offset
                    slots.lengths[index] = CInt(entry.length)
                    slots.formats[index] = entry.isBinary ? 1 : 0
                }
                return body(
                    (
                        CInt(parameters.entries.count), UnsafePointer(slots.values.baseAddress),
                        UnsafePointer(slots.lengths.baseAddress), UnsafePointer(slots.formats.baseAddress)
                    ))
            }
        }
    }

    static func check(_ parameters: PackedParameters) throws(PostgresError) {
        guard parameters.entries.count <= maximumCount else {
            throw .parameter(index: 0, problem: .tooMany(count: parameters.entries.count))
        }
        guard parameters.bytes.count <= maximumBytes else {
            throw .parameter(index: parameters.entries.count, problem: .tooLarge(bytes: parameters.bytes.count))
        }
        let first = parameters.bytes.withUnsafeBytes { block in
            parameters.entries.firstIndex { entry in
                guard !entry.isBinary, entry.length > 0, let base = block.baseAddress else { return false }
                return memchr(base + entry.offset, 0, entry.length) != nil
            }
        }
        if let first { throw .parameter(index: first + 1, problem: .zeroByteInText) }
    }

    private static func withSlots<Value>(_ count: Int, _ body: (Slots) -> Value) -> Value {
        withUnsafeTemporaryAllocation(of: UnsafePointer<CChar>?.self, capacity: count) { values in
            withUnsafeTemporaryAllocation(of: CInt.self, capacity: count * 2) { numbers in
                withUnsafeTemporaryAllocation(of: Int.self, capacity: count) { offsets in
                    values.initialize(repeating: nil)
                    numbers.initialize(repeating: 0)
                    offsets.initialize(repeating: -1)
                    return body(
                        Slots(
                            values: values, lengths: .init(rebasing: numbers[..<count]),
                            formats: .init(rebasing: numbers[count...]), offsets: offsets))
                }
            }
        }
    }

    private static func copy(
        _ parameters: [PostgresParameter], borrows: Bool, _ slots: Slots, _ scratch: inout [UInt8]
    ) {
        for (index, parameter) in parameters.enumerated() {
            let start = scratch.count
            switch parameter {
            case .null: continue
            case .text(let text): scratch.append(contentsOf: text.utf8)
            case .textBytes(let bytes): scratch.append(contentsOf: bytes)
            case .binary(let bytes):
                if borrows { continue }
                scratch.append(contentsOf: bytes)
                slots.formats[index] = 1
            }
            slots.lengths[index] = CInt(scratch.count - start)
            slots.offsets[index] = start
            scratch.append(0)
        }
    }

    private static func borrow<Value>(
        _ parameters: UnsafeBufferPointer<PostgresParameter>, from first: Int, borrows: Bool, _ slots: Slots,
        _ copied: UnsafeRawBufferPointer, _ body: (Arguments) -> Value
    ) -> Value {
        var index = first
        while index < parameters.count {
            if borrows, case .binary(let bytes) = parameters[index] {
                return bytes.withUnsafeBytes { raw in
                    // An empty value is not NULL: it needs an address.
                    slots.values[index] = raw.baseAddress?.assumingMemoryBound(to: CChar.self) ?? empty
                    slots.lengths[index] = CInt(raw.count)
                    slots.formats[index] = 1
                    return borrow(parameters, from: index + 1, borrows: borrows, slots, copied, body)
                }
            }
            if slots.offsets[index] >= 0, let base = copied.baseAddress {
                slots.values[index] = (base + slots.offsets[index]).assumingMemoryBound(to: CChar.self)
            }
            index += 1
        }
        return body(
            (
                CInt(parameters.count), UnsafePointer(slots.values.baseAddress),
                UnsafePointer(slots.lengths.baseAddress), UnsafePointer(slots.formats.baseAddress)
            ))
    }

    /// One zero that is never freed.
    private static nonisolated(unsafe) let empty: UnsafePointer<CChar> = {
        let byte = UnsafeMutablePointer<CChar>.allocate(capacity: 1)
        byte.initialize(to: 0)
        return UnsafePointer(byte)
    }()
}
