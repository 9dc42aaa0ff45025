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

-- Edits of one subject collapse together: how many independent draws are n edits worth?
-- The ratio estimator's variance over clusters (Cochran, Sampling Techniques, section 10A; HC0)
-- beside the binomial one. Where every subject has one edit they are equal, and the answer is n;
-- where the share is 0 or 1 both are 0, and the answer is the number of subjects.
create macro independent_draws(k, n, n_subjects, sum_kk, sum_kn, sum_nn) as
    case
        when n = 0 then 0.0::double
        when k = 0 or k = n or n_subjects = 1 then n_subjects::double
        else least(
            n::double,
            n * (k * (1 - k / n::double)) / (sum_kk - 2 * k * sum_kn / n::double + k * k * sum_nn / (n * n)::double)
        )
    end;

comment on macro independent_draws is
    'How many independent draws n edits of n_subjects subjects are worth for the interval of the share k / n, at most n; sum_kk, sum_kn and sum_nn are sums over subjects of squares and products of their own counts.';
