-- By which rule has an edit collapsed its model, where a question names none?
-- storage.schema writes its default in.
create macro collapse_rule() as
    {'threshold': $threshold::double, 'ratio': $ratio::double, 'measure': $measure};

comment on macro collapse_rule is
    'The default rule of collapse: threshold and ratio as collapsed takes them, measure as perplexity_by does.';

-- Which figure of a text set is its perplexity? The published rule's mean over texts can hang on one.
create macro perplexity_by(measure, perplexity, nll_mean, perplexity_median) as
    case measure
        when 'mean' then perplexity
        when 'nll' then exp(nll_mean)
        when 'median' then perplexity_median
        -- No number: DuckDB's refusal shows the words.
        else ('measure ' || coalesce(measure, 'null') || ': give mean, nll or median')::double
    end;

comment on macro perplexity_by is
    'Perplexity of a text set by a measure: mean (of the texts'' perplexities, as published), nll (exp of nll_mean) or median (of the texts'' perplexities).';

-- Where the rule's measure and the other say different counts, what does the other say?
create macro by_other_measure(n_collapsed, measure, n_by_mean, n_by_nll) as
    case
        when measure = 'mean' and n_by_nll <> n_collapsed then ' (' || n_by_nll || ' by nll)'
        when measure <> 'mean' and n_by_mean <> n_collapsed then ' (' || n_by_mean || ' by mean)'
        else ''
    end;

comment on macro by_other_measure is
    'The count by measure nll in brackets where it is another than that by mean, which the rule takes; if the rule takes another measure, that by mean. Text, empty where both are equal.';

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
