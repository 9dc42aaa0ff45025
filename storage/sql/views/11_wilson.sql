-- How sure is a share of k in n?
create macro wilson_low(k, n) as
    case
        when n is null or k is null or n = 0 then null
        when k = 0 then 0.0::double
        else greatest(
            0.0::double,
            (
                k / n::double + 3.841458820694124 / (2 * n)
                - 1.959963984540054
                * sqrt((k / n::double) * (1 - k / n::double) / n + 3.841458820694124 / (4 * n * n))
            ) / (1 + 3.841458820694124 / n)
        )
    end;

create macro wilson_high(k, n) as
    case
        when n is null or k is null or n = 0 then null
        when k = n then 1.0::double
        else least(
            1.0::double,
            (
                k / n::double + 3.841458820694124 / (2 * n)
                + 1.959963984540054
                * sqrt((k / n::double) * (1 - k / n::double) / n + 3.841458820694124 / (4 * n * n))
            ) / (1 + 3.841458820694124 / n)
        )
    end;

comment on macro wilson_low is
    'Lower end of the 95 % Wilson interval of a share of k in n; fraction 0-1, NULL where n is 0.';
comment on macro wilson_high is
    'Upper end of the 95 % Wilson interval of a share of k in n; fraction 0-1, NULL where n is 0.';
