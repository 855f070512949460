-- Rows that are never changed. The triggers are ordinary ones: they do not fire under session_replication_role = replica, which
-- only a superuser may set, so an administrator who must correct something has to say so first (tables/usage.ts).
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'table % is append-only: % refused', tg_table_name, lower(tg_op)
    USING ERRCODE = 'restrict_violation', HINT = 'An administrator may set session_replication_role = replica for one transaction.';
END $$;
--> statement-breakpoint
CREATE TRIGGER usage_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
--> statement-breakpoint
CREATE TRIGGER usage_conflicts_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_conflicts FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
--> statement-breakpoint
CREATE TRIGGER calls_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON calls FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
--> statement-breakpoint
CREATE TRIGGER transfers_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
--> statement-breakpoint
CREATE TRIGGER prices_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON prices FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
--> statement-breakpoint
CREATE TRIGGER function_versions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON function_versions FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
--> statement-breakpoint
CREATE TRIGGER provisions_no_delete BEFORE DELETE OR TRUNCATE ON provisions FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
--> statement-breakpoint
-- Of a provision only the end may be filled in, once.
CREATE FUNCTION refuse_provision_rewrite() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (new.cell, new.provision, new.node, new.gpus, new.provisioned_at_ns, new.reported_by)
     IS DISTINCT FROM (old.cell, old.provision, old.node, old.gpus, old.provisioned_at_ns, old.reported_by)
     OR (old.released_at_ns IS NOT NULL AND new.released_at_ns IS DISTINCT FROM old.released_at_ns) THEN
    RAISE EXCEPTION 'provision % was recorded otherwise', old.provision USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN new;
END $$;
--> statement-breakpoint
CREATE TRIGGER provisions_write_once BEFORE UPDATE ON provisions FOR EACH ROW EXECUTE FUNCTION refuse_provision_rewrite();
