import CLibPQ

/// Parameters laid out as libpq takes them: pointers, lengths and formats, borrowed for one call.
enum ParameterBlock {
    typealias Arguments = (
        count: Int32, values: UnsafePointer<UnsafePointer<CChar>?>?, lengths: UnsafePointer<Int32>?,
        formats: UnsafePointer<Int32>?
    )

    /// Calls `body` with pointers straight into the parameters' own storage: values are not copied.
    static func withArguments<Result>(_ parameters: [PostgresParameter], _ body: (Arguments) -> Result) -> Result {
        var lengths = [Int32](repeating: 0, count: parameters.count)
        var formats = [Int32](repeating: 0, count: parameters.count)
        var values = [UnsafePointer<CChar>?](repeating: nil, count: parameters.count)
        return fill(parameters[...], 0, &values, &lengths, &formats, body)
    }

    private static func fill<Result>(
        _ rest: ArraySlice<PostgresParameter>, _ index: Int, _ values: inout [UnsafePointer<CChar>?],
        _ lengths: inout [Int32], _ formats: inout [Int32], _ body: (Arguments) -> Result
    ) -> Result {
        guard let parameter = rest.first else {
            return values.withUnsafeBufferPointer { values in
                lengths.withUnsafeBufferPointer { lengths in
                    formats.withUnsafeBufferPointer { formats in
                        body((Int32(values.count), values.baseAddress, lengths.baseAddress, formats.baseAddress))
                    }
                }
            }
        }
        switch parameter {
        case .null:
            return fill(rest.dropFirst(), index + 1, &values, &lengths, &formats, body)
        case .text(let text):
            // Text parameters end at a NUL.
            return text.withCString { pointer in
                values[index] = pointer
                return fill(rest.dropFirst(), index + 1, &values, &lengths, &formats, body)
            }
        case .textBytes(let bytes):
            return (bytes + [0]).withUnsafeBytes { buffer in
                values[index] = buffer.bindMemory(to: CChar.self).baseAddress
                return fill(rest.dropFirst(), index + 1, &values, &lengths, &formats, body)
            }
        case .binary(let bytes):
            return bytes.withUnsafeBytes { buffer in
                // An empty value is not NULL: it needs an address.
                values[index] = buffer.bindMemory(to: CChar.self).baseAddress ?? empty
                lengths[index] = Int32(buffer.count)
                formats[index] = 1
                return fill(rest.dropFirst(), index + 1, &values, &lengths, &formats, body)
            }
        }
    }

    private static nonisolated(unsafe) let empty: UnsafePointer<CChar> = {
        let byte = UnsafeMutablePointer<CChar>.allocate(capacity: 1)
        byte.initialize(to: 0)
        return UnsafePointer(byte)
    }()
}
