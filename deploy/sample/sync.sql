-- One answer of Beds24: a booking comes or changes, now and then one goes.
\set n random(1, 8000)
\set m random(1, 1000000)
INSERT INTO "Reservas" ("id", "bookingId", "status", "guestName", "arrivalDate", "lastSyncBeds24", "beds24Status", "apiData")
  VALUES ('c' || md5(:m::int || '-' || :n::int), 'beds24-' || :n::int, 'NEW', 'Guest ' || :n::int, current_date + :n::int % 60, now(), 'new', jsonb_build_object('m', :m::int))
  ON CONFLICT ("bookingId") DO UPDATE SET "status" = 'CONFIRMED', "lastSyncBeds24" = now(), "beds24Status" = 'confirmed',
    "apiData" = jsonb_build_object('m', :m::int, 'raw', CASE WHEN :m::int % 5 = 0 THEN (SELECT string_agg(md5(:m::int::text || k::text), '') FROM generate_series(1, 300) k) END);
DELETE FROM "Reservas" WHERE :m::int % 50 = 0 AND "bookingId" = 'beds24-' || (5000 + :m::int % 3000);
UPDATE "HotelApart" SET "price" = 50 + :m::int % 100, "updatedAt" = now() WHERE "name" = 'Apart ' || (1 + :m::int % 50);
