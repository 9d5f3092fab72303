import Testing

@testable import ReplicationCore

@Suite struct BinaryStreamTests {
    private static let userOID = TypeCompatibility.firstUserOID + 7

    /// Whether a column of this type may be read from a binary stream into such a column.
    private func travels(
        _ typeOID: UInt32, to column: ColumnDescription, userTypes: [UInt32: ColumnDescription] = [:]
    ) -> Bool {
        let relation = RelationMessage(
            id: 1, name: QualifiedName(schema: "public", name: "t"), replicaIdentity: .default,
            columns: [.init(isKey: false, name: "c", typeOID: typeOID, typeModifier: -1)])
        let table = TableDescription(
            name: relation.name, oid: 1, kind: .ordinary, isPartition: false, columns: [column], replicaIdentity: .default)
        return TypeCompatibility.travelsInBinary(relation, to: table, userTypes: userTypes)
    }

    private func column(base: UInt32, own: UInt32? = nil, kind: String = "b") -> ColumnDescription {
        ColumnDescription(name: "c", type: "", typeOID: own ?? base, baseTypeOID: base, baseKind: kind)
    }

    @Test func builtInTypeTravelsToItsLike() {
        #expect(travels(23, to: column(base: 23)))
        #expect(!travels(23, to: column(base: 20)))
        #expect(travels(23, to: column(base: 23, own: Self.userOID)))
    }

    @Test func unknownTypeTravelsOnlyWhereALabelIsReadAsALabel() {
        #expect(!travels(Self.userOID, to: column(base: 23)))
        #expect(!travels(Self.userOID, to: column(base: 701, own: Self.userOID)))
        #expect(travels(Self.userOID, to: column(base: 25)))
        #expect(travels(Self.userOID, to: column(base: Self.userOID, kind: "e")))
    }

    @Test func knownTypeTravelsAsWhatItIs() {
        let number = [Self.userOID: column(base: 23, own: Self.userOID)]
        let label = [Self.userOID: column(base: Self.userOID, kind: "e")]
        #expect(travels(Self.userOID, to: column(base: 23), userTypes: number))
        #expect(!travels(Self.userOID, to: column(base: 20), userTypes: number))
        #expect(!travels(Self.userOID, to: column(base: 23), userTypes: label))
        #expect(travels(Self.userOID, to: column(base: Self.userOID + 1, kind: "e"), userTypes: label))
    }
}
