-- One turn of the WhatsApp bot: it writes its own columns, and the shared phone.
\set n random(1, 5000)
\set m random(1, 1000000)
UPDATE "Reservas" SET "lastBotInteraction" = now(), "whatsappThreadId" = 'thread-' || :m, "crmNotes" = repeat('n', :m % 200)
  WHERE "bookingId" = 'beds24-' || :n;
UPDATE "Reservas" SET "phone" = '+34' || (600000000 + :m), "updatedAt" = now() WHERE "bookingId" = 'beds24-' || :n;
INSERT INTO "Leads" ("phone", "name") VALUES ('+34' || (800000000 + :m), 'New lead') ON CONFLICT ("phone") DO UPDATE SET "score" = "Leads"."score" + 1;
