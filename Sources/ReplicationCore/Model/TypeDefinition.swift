/// What a type of the users' own is made of: under one name each side may have another.
public struct TypeDefinition: Sendable, Equatable {
    /// An attribute of a composite, what a domain stands for, or what a range has as its bounds.
    public struct Part: Sendable, Equatable {
        /// Empty but for an attribute.
        public var name: String
        /// With its modifier: `numeric(5,1)`.
        public var type: String
        public var typeOID: UInt32
        /// -1 for none.
        public var modifier: Int32

        public init(name: String, type: String, typeOID: UInt32, modifier: Int32) {
            self.name = name
            self.type = type
            self.typeOID = typeOID
            self.modifier = modifier
        }
    }

    /// `public.pair`.
    public var name: String
    /// `typtype`: c composite, d domain, e enum, r range.
    public var kind: String
    /// In their order; of an enum none.
    public var parts: [Part]

    public init(name: String, kind: String, parts: [Part]) {
        self.name = name
        self.kind = kind
        self.parts = parts
    }

    /// For people: `(a integer, b text)`.
    public var text: String {
        switch kind {
        case "c": "(\(parts.map { "\(SQLText.identifier($0.name)) \($0.type)" }.joined(separator: ", ")))"
        case "e": "an enum"
        case "r": "a range of \(parts.first?.type ?? "")"
        default: parts.first?.type ?? ""
        }
    }

    /// Whether values of this type of a source mean the same in the target's. Types in it of the users' own go by their names, and
    /// have definitions of their own.
    func fits(_ target: TypeDefinition) -> Bool {
        kind == target.kind && parts.count == target.parts.count
            && zip(parts, target.parts).allSatisfy { part, other in
                guard part.name == other.name else { return false }
                if max(part.typeOID, other.typeOID) >= TypeCompatibility.firstUserOID { return part.type == other.type }
                let column = ColumnDescription(
                    name: other.name, type: other.type, typeOID: other.typeOID, baseTypeOID: other.typeOID, baseModifier: other.modifier)
                return TypeCompatibility.fits(sourceOID: part.typeOID, target: column)
                    && TypeNarrowing.of(source: part.typeOID, modifier: part.modifier, target: column) != .alters
            }
    }
}

/// A type that has one name and is made of something else on each side.
public struct TypeDifference: Sendable, Equatable {
    public var type: String
    /// What it is on the source.
    public var source: String
    public var target: String
    /// What the target's column may be instead, where that is enough: the type under the source's domain.
    public var base: String?

    /// The difference that two columns' types hide behind their names; `nil` where the names differ or what is under them fits.
    public static func between(_ source: ColumnDescription, _ target: ColumnDescription) -> TypeDifference? {
        guard source.typeOID >= TypeCompatibility.firstUserOID, source.type == target.type else { return nil }
        if max(source.baseTypeOID, target.baseTypeOID) < TypeCompatibility.firstUserOID {
            let fits =
                TypeCompatibility.fits(sourceOID: source.baseTypeOID, target: target)
                && TypeNarrowing.of(source: source.baseTypeOID, modifier: source.baseModifier, target: target) != .alters
            return fits
                ? nil : TypeDifference(type: source.type, source: source.baseType, target: target.baseType, base: source.baseType)
        }
        if source.baseType != target.baseType {
            return TypeDifference(type: source.type, source: source.baseType, target: target.baseType)
        }
        for definition in source.definitions {
            guard let other = target.definitions.first(where: { $0.name == definition.name }), !definition.fits(other) else { continue }
            return TypeDifference(type: definition.name, source: definition.text, target: other.text)
        }
        return nil
    }

    /// Whether a column of the target still has the type as it was.
    public func isStill(in column: ColumnDescription) -> Bool {
        column.type == type && column.baseType == target || column.definitions.contains { $0.name == type && $0.text == target }
    }

    /// What makes the target's column hold what the source's has: SQL, or where that depends on its rows, words.
    public func mend(_ column: String, of table: QualifiedName) -> String {
        if let base {
            let name = SQLText.identifier(column)
            return "ALTER TABLE \(table.sql) ALTER COLUMN \(name) TYPE \(base) USING \(name)::\(base);"
        }
        return "let type \(type) be \(source) here, too: ALTER TYPE \(type) RENAME TO …; make \(type) anew; then ALTER TABLE … ALTER COLUMN … "
            + "TYPE … USING …; for \(table).\(column) and each column that has it"
    }
}
