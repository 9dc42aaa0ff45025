-- How many tokens did C need until the directions of the updates stood still?
-- The view asks with a change of 0.1 for each doubling, the macro of the same name with any other:
--     from covariance_tokens;
--     from covariance_tokens(tolerance := 0.01);
create macro covariance_tokens(tolerance := 0.1) as table
with judged as (
    select
        covariance_id,
        n_tokens,
        tokens_per_d_key,
        max_change,
        -- Settled from here on: no later checkpoint moved by more, and each was measured.
        bool_and(coalesce(max_change <= tolerance, false)) over (
            partition by covariance_id order by n_shards desc
        ) as is_settled
    from main.covariance_convergence
)
select
    covariances.covariance_id,
    covariances.model_id,
    covariances.layer,
    covariances.n_tokens,
    max(judged.tokens_per_d_key) as tokens_per_d_key,
    min(judged.n_tokens) filter (where judged.is_settled) as tokens_needed,
    min(judged.tokens_per_d_key) filter (where judged.is_settled) as needed_per_d_key,
    arg_max(judged.max_change, judged.n_tokens) as last_change
from main.covariances
inner join judged on judged.covariance_id = covariances.covariance_id
group by all
order by covariances.model_id, covariances.layer, covariances.covariance_id;

create view covariance_tokens as
select * from main.covariance_tokens(tolerance := 0.1);

comment on macro table covariance_tokens is
    'Tokens that each C needed until no probe''s direction moved by more than the tolerance, which is the argument.';
comment on view covariance_tokens is
    'Tokens that each C needed until no probe''s direction moved by more than 0.1 from one checkpoint to the next.';
comment on column covariance_tokens.covariance_id is 'Second moment: covariances.covariance_id.';
comment on column covariance_tokens.model_id is 'Model: models.model_id.';
comment on column covariance_tokens.layer is 'Block whose keys were read. Index from 0.';
comment on column covariance_tokens.n_tokens is 'Keys averaged in C. Tokens.';
comment on column covariance_tokens.tokens_per_d_key is
    'n_tokens over the width of a key. Ratio, no unit.';
comment on column covariance_tokens.tokens_needed is
    'Tokens from which on every change was within the tolerance. Tokens. NULL = still moving at the last checkpoint.';
comment on column covariance_tokens.needed_per_d_key is
    'tokens_needed over the width of a key. Ratio, no unit. NULL as tokens_needed.';
comment on column covariance_tokens.last_change is
    'covariance_convergence.max_change at the last checkpoint that has one. 0 to 2. NULL = none.';
