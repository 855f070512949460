CREATE TABLE "accounts" (
	"account" text PRIMARY KEY NOT NULL,
	"tenant" text,
	"name" text NOT NULL,
	"currency" text NOT NULL,
	"debits_within_credits" boolean DEFAULT false NOT NULL,
	"debits_pending" numeric(38,0) DEFAULT 0 NOT NULL,
	"debits_posted" numeric(38,0) DEFAULT 0 NOT NULL,
	"credits_pending" numeric(38,0) DEFAULT 0 NOT NULL,
	"credits_posted" numeric(38,0) DEFAULT 0 NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "accounts_not_negative" CHECK ("accounts"."debits_pending" >= 0 and "accounts"."debits_posted" >= 0 and "accounts"."credits_pending" >= 0 and "accounts"."credits_posted" >= 0),
	CONSTRAINT "accounts_within" CHECK (not "accounts"."debits_within_credits" or "accounts"."debits_pending" + "accounts"."debits_posted" <= "accounts"."credits_posted")
);
--> statement-breakpoint
CREATE TABLE "api_keys" (
	"key" text PRIMARY KEY NOT NULL,
	"tenant" text NOT NULL,
	"project" text NOT NULL,
	"name" text NOT NULL,
	"secret_hash" text NOT NULL,
	"scopes" text[] NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp with time zone,
	"revoked_at" timestamp with time zone
);
--> statement-breakpoint
CREATE TABLE "calls" (
	"tenant" text NOT NULL,
	"call" text NOT NULL,
	"accepted_at_ns" numeric(38,0) NOT NULL,
	"ended_at_ns" numeric(38,0) NOT NULL,
	"outcome" text NOT NULL,
	"code" text,
	"cell" text NOT NULL,
	"project" text,
	"function" text,
	"version" text,
	"run" text,
	"session" text,
	"program" text,
	"agent" text,
	"model" text,
	"key" text,
	"prompt_tokens" bigint NOT NULL,
	"cached_tokens" bigint NOT NULL,
	"completion_tokens" bigint NOT NULL,
	CONSTRAINT "calls_tenant_call_accepted_at_ns_pk" PRIMARY KEY("tenant","call","accepted_at_ns")
);
--> statement-breakpoint
CREATE TABLE "cells" (
	"cell" text PRIMARY KEY NOT NULL,
	"epoch" bigint NOT NULL,
	"owner" text NOT NULL,
	"acquired_at" timestamp with time zone NOT NULL,
	"expires_at" timestamp with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "function_aliases" (
	"function" text NOT NULL,
	"alias" text NOT NULL,
	"version" text NOT NULL,
	"moved_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "function_aliases_function_alias_pk" PRIMARY KEY("function","alias")
);
--> statement-breakpoint
CREATE TABLE "function_versions" (
	"version" text PRIMARY KEY NOT NULL,
	"function" text NOT NULL,
	"code" text NOT NULL,
	"code_hash" text NOT NULL,
	"config" jsonb NOT NULL,
	"config_hash" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "function_versions_content" UNIQUE("function","code_hash","config_hash")
);
--> statement-breakpoint
CREATE TABLE "functions" (
	"function" text PRIMARY KEY NOT NULL,
	"tenant" text NOT NULL,
	"project" text NOT NULL,
	"name" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "functions_name" UNIQUE("project","name")
);
--> statement-breakpoint
CREATE TABLE "instance_groups" (
	"group" text PRIMARY KEY NOT NULL,
	"cell" text NOT NULL,
	"node" text NOT NULL,
	"model" text NOT NULL,
	"role" text NOT NULL,
	"engine" text NOT NULL,
	"gpus" integer NOT NULL,
	"started_at_ns" numeric(38,0) NOT NULL,
	"ended_at_ns" numeric(38,0),
	"end_reason" text
);
--> statement-breakpoint
CREATE TABLE "instances" (
	"instance" text PRIMARY KEY NOT NULL,
	"group" text NOT NULL,
	"gpu_indices" integer[] NOT NULL
);
--> statement-breakpoint
CREATE TABLE "nodes" (
	"node" text PRIMARY KEY NOT NULL,
	"cell" text NOT NULL,
	"gpus" integer NOT NULL,
	"gpu_type" text DEFAULT 'a100' NOT NULL,
	"reported_by" text NOT NULL,
	"seen_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "prices" (
	"price" text PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"cell" text DEFAULT '*' NOT NULL,
	"gpu_type" text DEFAULT '*' NOT NULL,
	"model" text DEFAULT '*' NOT NULL,
	"currency" text NOT NULL,
	"version" integer NOT NULL,
	"effective_from_ns" numeric(38,0) NOT NULL,
	"per_gpu_hour" numeric(38,0),
	"prompt_per_million" numeric(38,0),
	"cached_per_million" numeric(38,0),
	"completion_per_million" numeric(38,0),
	"note" text DEFAULT '' NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "prices_version" UNIQUE("kind","cell","gpu_type","model","currency","effective_from_ns","version"),
	CONSTRAINT "prices_minute" CHECK ("prices"."effective_from_ns" % 60000000000 = 0),
	CONSTRAINT "prices_kind" CHECK (case "prices"."kind"
        when 'gpu_hour' then coalesce("prices"."per_gpu_hour" >= 0, false)
        when 'tokens' then coalesce("prices"."prompt_per_million" >= 0 and "prices"."cached_per_million" >= 0 and "prices"."completion_per_million" >= 0, false)
        else false end)
);
--> statement-breakpoint
CREATE TABLE "projects" (
	"project" text PRIMARY KEY NOT NULL,
	"tenant" text NOT NULL,
	"name" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "projects_name" UNIQUE("tenant","name")
);
--> statement-breakpoint
CREATE TABLE "provisions" (
	"cell" text NOT NULL,
	"provision" text NOT NULL,
	"node" text NOT NULL,
	"gpus" integer NOT NULL,
	"provisioned_at_ns" numeric(38,0) NOT NULL,
	"released_at_ns" numeric(38,0),
	"reported_by" text NOT NULL,
	CONSTRAINT "provisions_cell_provision_pk" PRIMARY KEY("cell","provision"),
	CONSTRAINT "provisions_gpus" CHECK ("provisions"."gpus" > 0),
	CONSTRAINT "provisions_order" CHECK ("provisions"."released_at_ns" >= "provisions"."provisioned_at_ns")
);
--> statement-breakpoint
CREATE TABLE "tenants" (
	"tenant" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "transfers" (
	"transfer" text PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"debit_account" text NOT NULL,
	"credit_account" text NOT NULL,
	"amount" numeric(38,0) NOT NULL,
	"resolves" text,
	"reason" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "transfers_resolves" UNIQUE("resolves"),
	CONSTRAINT "transfers_kind" CHECK ("transfers"."kind" in ('posted', 'pending', 'post', 'void')),
	CONSTRAINT "transfers_resolves_kind" CHECK (("transfers"."resolves" is not null) = ("transfers"."kind" in ('post', 'void'))),
	CONSTRAINT "transfers_two_accounts" CHECK ("transfers"."debit_account" <> "transfers"."credit_account"),
	CONSTRAINT "transfers_amount" CHECK ("transfers"."amount" >= 0 and ("transfers"."amount" > 0 or "transfers"."kind" in ('post', 'void')))
);
--> statement-breakpoint
CREATE TABLE "usage_conflicts" (
	"tenant" text NOT NULL,
	"source" text NOT NULL,
	"id" text NOT NULL,
	"payload_hash" text NOT NULL,
	"stored_hash" text NOT NULL,
	"payload" jsonb NOT NULL,
	"seen_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "usage_conflicts_tenant_source_id_payload_hash_pk" PRIMARY KEY("tenant","source","id","payload_hash")
);
--> statement-breakpoint
CREATE TABLE "usage" (
	"tenant" text NOT NULL,
	"source" text NOT NULL,
	"id" text NOT NULL,
	"payload_hash" text NOT NULL,
	"kind" text NOT NULL,
	"from_ns" numeric(38,0) NOT NULL,
	"to_ns" numeric(38,0) NOT NULL,
	"quantity" numeric(38,0) NOT NULL,
	"project" text,
	"function" text,
	"version" text,
	"run" text,
	"session" text,
	"program" text,
	"agent" text,
	"model" text,
	"call" text,
	"leg" text,
	"leg_state" text,
	"cost_centre" text,
	"cell" text,
	"node" text,
	"group" text,
	"instance" text,
	"prompt_tokens" bigint,
	"cached_tokens" bigint,
	"completion_tokens" bigint,
	"recorded_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "usage_tenant_source_id_pk" PRIMARY KEY("tenant","source","id"),
	CONSTRAINT "usage_order" CHECK ("usage"."to_ns" >= "usage"."from_ns")
);
--> statement-breakpoint
CREATE TABLE "watermarks" (
	"cell" text PRIMARY KEY NOT NULL,
	"through_ns" numeric(38,0) NOT NULL,
	"moved_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "api_keys" ADD CONSTRAINT "api_keys_tenant_tenants_tenant_fk" FOREIGN KEY ("tenant") REFERENCES "public"."tenants"("tenant") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "api_keys" ADD CONSTRAINT "api_keys_project_projects_project_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("project") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "function_aliases" ADD CONSTRAINT "function_aliases_function_functions_function_fk" FOREIGN KEY ("function") REFERENCES "public"."functions"("function") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "function_aliases" ADD CONSTRAINT "function_aliases_version_function_versions_version_fk" FOREIGN KEY ("version") REFERENCES "public"."function_versions"("version") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "function_versions" ADD CONSTRAINT "function_versions_function_functions_function_fk" FOREIGN KEY ("function") REFERENCES "public"."functions"("function") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "functions" ADD CONSTRAINT "functions_tenant_tenants_tenant_fk" FOREIGN KEY ("tenant") REFERENCES "public"."tenants"("tenant") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "functions" ADD CONSTRAINT "functions_project_projects_project_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("project") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "instances" ADD CONSTRAINT "instances_group_instance_groups_group_fk" FOREIGN KEY ("group") REFERENCES "public"."instance_groups"("group") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "projects" ADD CONSTRAINT "projects_tenant_tenants_tenant_fk" FOREIGN KEY ("tenant") REFERENCES "public"."tenants"("tenant") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "transfers" ADD CONSTRAINT "transfers_debit_account_accounts_account_fk" FOREIGN KEY ("debit_account") REFERENCES "public"."accounts"("account") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "transfers" ADD CONSTRAINT "transfers_credit_account_accounts_account_fk" FOREIGN KEY ("credit_account") REFERENCES "public"."accounts"("account") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "accounts_tenant" ON "accounts" USING btree ("tenant");--> statement-breakpoint
CREATE INDEX "api_keys_project" ON "api_keys" USING btree ("project");--> statement-breakpoint
CREATE INDEX "api_keys_revoked" ON "api_keys" USING btree ("revoked_at");--> statement-breakpoint
CREATE INDEX "calls_time" ON "calls" USING btree ("tenant","ended_at_ns");--> statement-breakpoint
CREATE INDEX "calls_run" ON "calls" USING btree ("run");--> statement-breakpoint
CREATE INDEX "calls_session" ON "calls" USING btree ("session");--> statement-breakpoint
CREATE INDEX "instance_groups_cell" ON "instance_groups" USING btree ("cell");--> statement-breakpoint
CREATE INDEX "instances_group" ON "instances" USING btree ("group");--> statement-breakpoint
CREATE INDEX "provisions_node" ON "provisions" USING btree ("node");--> statement-breakpoint
CREATE INDEX "transfers_debit" ON "transfers" USING btree ("debit_account");--> statement-breakpoint
CREATE INDEX "transfers_credit" ON "transfers" USING btree ("credit_account");--> statement-breakpoint
CREATE INDEX "usage_time" ON "usage" USING btree ("tenant","from_ns");--> statement-breakpoint
CREATE INDEX "usage_cell_time" ON "usage" USING btree ("cell","from_ns");