-- How far does the interval of a mean of few numbers reach?
-- Expansion of Student's quantile in 1 / df (Abramowitz & Stegun 26.7.5): 5 figures from df = 5 on.
create macro t_quantile(df) as
    case
        when df < 1 then null
        when df = 1 then 12.706204736432095
        when df = 2 then 4.302652729911275
        when df = 3 then 3.182446305284263
        when df = 4 then 2.7764451051977987
        else 1.959963984540054
            + 2.372271230299 / df
            + 2.822498615740 / (df * df::double)
            + 2.555849679508 / (df * df * df::double)
            + 1.589534053394 / (df * df * df * df::double)
    end;

comment on macro t_quantile is
    '97.5 % quantile of Student''s t with df degrees of freedom; NULL where there are none.';
