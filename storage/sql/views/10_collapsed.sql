-- By which rule has an edit collapsed its model, where a question names none?
-- storage.schema writes its default in.
create macro collapse_rule() as {'threshold': $threshold::double, 'ratio': $ratio::double};

comment on macro collapse_rule is
    'The default rule of collapse: threshold and ratio as collapsed takes them.';

-- Did this edit collapse the model, by a rule that the question names?
create macro collapsed(perplexity, perplexity_before, threshold, ratio) as
    case
        when perplexity is null then null
        when isnan(perplexity::double) or isinf(perplexity::double) then true
        -- A model that stands above the threshold unedited has not been brought there by an edit.
        when coalesce(perplexity > threshold and coalesce(perplexity_before <= threshold, true), false)
            then true
        else coalesce(perplexity > ratio * perplexity_before, false)
    end;

comment on macro collapsed is
    'True where perplexity is nan or inf, above threshold while perplexity_before is not, or above ratio times perplexity_before; a null threshold or ratio is left out; NULL perplexity gives NULL.';
