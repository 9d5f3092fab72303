/// The name of an entry under `tables:`: a table, or a pattern that stands for many.
///
/// - `Reservas`: that table in the schema `public`.
/// - `crm.Leads`: that table in `crm`. Either part may be in double quotes, which is how a name that holds a
///   dot, `*` or `?` is written: `"odd.schema"."What?"`. A double quote inside them is doubled, as in SQL.
/// - `Reser*`, `crm.*`, `*.Leads`: `*` stands for any run of characters, `?` for one.
/// - `*`: every table of every schema.
public struct TablePattern: Sendable, Equatable {
    private enum Piece: Sendable, Equatable {
        case character(Unicode.Scalar)
        case one
        case many
    }

    private let schema: [Piece]
    private let name: [Piece]
    /// The one table this stands for; `nil` when it is a pattern.
    public let exactName: QualifiedName?

    /// `nil` when the text is empty, has an open quote, an empty part, or more than one dot outside quotes.
    public init?(_ text: String) {
        guard let parts = Self.parts(text), (1...2).contains(parts.count), parts.allSatisfy({ !$0.isEmpty })
        else { return nil }
        let name = parts[parts.count - 1]
        let schema: [Piece]
        if parts.count == 2 {
            schema = parts[0]
        } else {
            schema = name == [.many] ? [.many] : "public".unicodeScalars.map(Piece.character)
        }
        self.name = name
        self.schema = schema
        if let exactSchema = Self.exact(schema), let exactTable = Self.exact(name) {
            exactName = QualifiedName(schema: exactSchema, name: exactTable)
        } else {
            exactName = nil
        }
    }

    public func matches(_ table: QualifiedName) -> Bool {
        if let exactName { return exactName == table }
        return Self.matches(name, table.name) && Self.matches(schema, table.schema)
    }

    /// How an entry names this one table.
    public static func text(for table: QualifiedName) -> String {
        let name = quotedIfNeeded(table.name)
        return table.schema == "public" ? name : quotedIfNeeded(table.schema) + "." + name
    }

    private static func quotedIfNeeded(_ name: String) -> String {
        name.unicodeScalars.contains { ".*?\"".unicodeScalars.contains($0) } ? SQLText.identifier(name) : name
    }

    private static func parts(_ text: String) -> [[Piece]]? {
        var parts: [[Piece]] = [[]]
        var isQuoted = false
        let scalars = Array(text.unicodeScalars)
        var position = 0
        while position < scalars.count {
            let scalar = scalars[position]
            position += 1
            switch scalar {
            case "\"" where isQuoted && position < scalars.count && scalars[position] == "\"":
                parts[parts.count - 1].append(.character(scalar))
                position += 1
            case "\"": isQuoted.toggle()
            case "." where !isQuoted: parts.append([])
            case "*" where !isQuoted: parts[parts.count - 1].append(.many)
            case "?" where !isQuoted: parts[parts.count - 1].append(.one)
            default: parts[parts.count - 1].append(.character(scalar))
            }
        }
        return isQuoted ? nil : parts
    }

    private static func exact(_ pieces: [Piece]) -> String? {
        var text = String.UnicodeScalarView()
        for piece in pieces {
            guard case .character(let scalar) = piece else { return nil }
            text.append(scalar)
        }
        return String(text)
    }

    /// Matches in time proportional to the product of the lengths: on a mismatch it goes back to the last `*` only.
    private static func matches(_ pieces: [Piece], _ text: String) -> Bool {
        let scalars = Array(text.unicodeScalars)
        var piece = 0
        var position = 0
        var restart: (piece: Int, position: Int)?
        while position < scalars.count {
            if piece < pieces.count, pieces[piece] == .many {
                restart = (piece + 1, position)
                piece += 1
            } else if piece < pieces.count,
                pieces[piece] == .one || pieces[piece] == .character(scalars[position])
            {
                piece += 1
                position += 1
            } else if let last = restart {
                restart = (last.piece, last.position + 1)
                piece = last.piece
                position = last.position + 1
            } else {
                return false
            }
        }
        return pieces[piece...].allSatisfy { $0 == .many }
    }
}
