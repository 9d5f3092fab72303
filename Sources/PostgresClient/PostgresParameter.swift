/// The value of one `$n` of a statement.
public enum PostgresParameter: Sendable, Equatable {
    case null
    /// The value's text form; PostgreSQL infers or casts the type.
    case text(String)
    /// The value's text form in UTF-8, without a terminating zero.
    case textBytes([UInt8])
    /// The type's binary form (`typsend`), sent without a copy of ours.
    case binary([UInt8])
}

/// Why a parameter cannot be sent.
public enum ParameterProblem: Sendable, Equatable {
    /// PostgreSQL's text cannot hold U+0000; sent anyway it would silently cut the value short.
    case zeroByteInText
    /// One message to the server holds less than 1 GB.
    case tooLarge(bytes: Int)
    /// A statement takes at most 65,535 parameters.
    case tooMany(count: Int)
}

extension PostgresParameter {
    /// What the value takes, in bytes.
    public var byteCount: Int {
        switch self {
        case .null: 0
        case .text(let text): text.utf8.count
        case .textBytes(let bytes), .binary(let bytes): bytes.count
        }
    }
}
