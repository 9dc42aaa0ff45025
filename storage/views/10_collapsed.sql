-- Did this edit collapse the model, by a rule that the question names?
create macro collapsed(perplexity, perplexity_before, threshold, ratio) as
    case
        when perplexity is null then null
        when isnan(perplexity::double) or isinf(perplexity::double) then true
        when coalesce(perplexity > threshold, false) then true
        else coalesce(perplexity > ratio * perplexity_before, false)
    end;

comment on macro collapsed is
    'True where perplexity is nan or inf, above threshold, or above ratio times perplexity_before; a null threshold or ratio is left out; NULL perplexity gives NULL.';
