-- The one way money moves (I5). Answers a word, never an exception, for everything that a caller can get wrong:
--   created             the transfer is written, the accounts' sums moved with it
--   exists              the same transfer was written before: nothing changed
--   id_conflict         the id was used for another transfer
--   unknown_kind, invalid_amount, same_account, account_not_found, currency_mismatch
--   pending_not_found   `resolves` names nothing, or nothing that is pending
--   already_resolved    that pending was posted or voided before
--   exceeds_pending     more than was held
--   exceeds_credits     the debit account is a budget, and this would overdraw it
-- post and void take their accounts from the pending transfer; a post without an amount posts all of it.
--
-- Concurrency: both accounts are locked, in the order of their ids, before anything is looked at; each statement of a volatile
-- function sees what was committed before it began (READ COMMITTED), so what is read after the lock is current.
CREATE FUNCTION post_transfer(
  p_transfer text, p_kind text, p_debit text, p_credit text, p_amount numeric, p_resolves text, p_reason text
) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  held transfers;
  found_before transfers;
  debit accounts;
  credit accounts;
  v_debit text := p_debit;
  v_credit text := p_credit;
  v_amount numeric := p_amount;
  v_resolves text := NULL;
BEGIN
  IF p_kind IN ('post', 'void') THEN
    SELECT * INTO held FROM transfers WHERE transfer = p_resolves AND kind = 'pending';
    IF NOT FOUND THEN RETURN 'pending_not_found'; END IF;
    v_debit := held.debit_account;
    v_credit := held.credit_account;
    v_amount := CASE WHEN p_kind = 'void' THEN 0 ELSE coalesce(p_amount, held.amount) END;
    v_resolves := p_resolves;
  ELSIF p_kind NOT IN ('posted', 'pending') THEN
    RETURN 'unknown_kind';
  END IF;

  IF v_amount IS NULL OR v_amount < 0 OR v_amount <> trunc(v_amount) OR v_amount >= 1e38
     OR (v_amount = 0 AND p_kind IN ('posted', 'pending')) THEN
    RETURN 'invalid_amount';
  END IF;
  IF v_debit = v_credit THEN RETURN 'same_account'; END IF;

  PERFORM 1 FROM accounts WHERE account IN (v_debit, v_credit) ORDER BY account FOR UPDATE;

  SELECT * INTO found_before FROM transfers WHERE transfer = p_transfer;
  IF NOT FOUND THEN
    SELECT * INTO debit FROM accounts WHERE account = v_debit;
    IF NOT FOUND THEN RETURN 'account_not_found'; END IF;
    SELECT * INTO credit FROM accounts WHERE account = v_credit;
    IF NOT FOUND THEN RETURN 'account_not_found'; END IF;
    IF debit.currency <> credit.currency THEN RETURN 'currency_mismatch'; END IF;
    IF v_resolves IS NOT NULL THEN
      PERFORM 1 FROM transfers WHERE resolves = v_resolves;
      IF FOUND THEN RETURN 'already_resolved'; END IF;
      IF v_amount > held.amount THEN RETURN 'exceeds_pending'; END IF;
    ELSIF debit.debits_within_credits AND debit.debits_pending + debit.debits_posted + v_amount > debit.credits_posted THEN
      RETURN 'exceeds_credits';
    END IF;

    INSERT INTO transfers (transfer, kind, debit_account, credit_account, amount, resolves, reason)
    VALUES (p_transfer, p_kind, v_debit, v_credit, v_amount, v_resolves, p_reason)
    ON CONFLICT (transfer) DO NOTHING;
    IF FOUND THEN
      UPDATE accounts SET
        debits_pending = debits_pending + CASE p_kind WHEN 'pending' THEN v_amount WHEN 'posted' THEN 0 ELSE -held.amount END,
        debits_posted = debits_posted + CASE WHEN p_kind IN ('posted', 'post') THEN v_amount ELSE 0 END
      WHERE account = v_debit;
      UPDATE accounts SET
        credits_pending = credits_pending + CASE p_kind WHEN 'pending' THEN v_amount WHEN 'posted' THEN 0 ELSE -held.amount END,
        credits_posted = credits_posted + CASE WHEN p_kind IN ('posted', 'post') THEN v_amount ELSE 0 END
      WHERE account = v_credit;
      RETURN 'created';
    END IF;
    -- The same id came in between, over other accounts (over these, the lock would have shown it above).
    SELECT * INTO found_before FROM transfers WHERE transfer = p_transfer;
  END IF;

  IF (found_before.kind, found_before.debit_account, found_before.credit_account, found_before.amount, found_before.reason)
       = (p_kind, v_debit, v_credit, v_amount, p_reason)
     AND found_before.resolves IS NOT DISTINCT FROM v_resolves THEN
    RETURN 'exists';
  END IF;
  RETURN 'id_conflict';
END $$;
